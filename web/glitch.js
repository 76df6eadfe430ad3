// Two things that the frontend leaves out. A word when a part of a workflow was refused while the
// rest of it runs: it then only draws a red frame, and what ran looks like all there was. And classic
// nodes as tall as what they show: a text box has the height of its text.
import { app } from "../../scripts/app.js"

const OURS = /^Glitch[A-Z]/
const SHOWN_MS = 20_000
const LONGEST = 300  // of the host's own sentences, which may list every file that it has
const LINE_PX = 15  // a line of the frontend's text boxes, of letters of this width
const LETTER_PX = 6
const EDGES_PX = 30  // beside a text box and inside it
const LEAST_LINES = 3
const MOST_LINES = 12  // the rest is scrolled

/** One sentence for each node, whatever number of its inputs the host blames with it. */
function refusals(nodeErrors) {
    return Object.entries(nodeErrors ?? {}).flatMap(([id, { errors }]) => {
        const title = app.graph.getNodeById(id)?.title ?? id
        const sentences = errors.map(({ type, message, details, extra_info }) =>
            type === "custom_validation_failed"
                ? details.replace(`${extra_info?.input_name} - `, "")
                : `${message}: ${details}`.slice(0, LONGEST))
        return [...new Set(sentences)].map(sentence => ({ title, sentence }))
    })
}

/** The height in pixels that a text needs in a box as wide as a node of this width. */
function textHeight(text, width) {
    const letters = Math.max(1, Math.floor((width - EDGES_PX) / LETTER_PX))
    const lines = String(text ?? "").split("\n")
        .reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0)
    return LINE_PX * Math.min(MOST_LINES, Math.max(LEAST_LINES, lines)) + EDGES_PX
}

app.registerExtension({
    name: "glitchingthegaze.nodes",  // below the pack's display name, so that no other has it
    nodeCreated(node) {
        if (!OURS.test(node.comfyClass) || !node.widgets) return
        for (const widget of node.widgets.filter(one => one.element?.tagName === "TEXTAREA"))
            widget.options.getMinHeight = () => textHeight(widget.value, node.size[0])
        node.setSize([node.size[0], node.computeSize()[1]])
    },
    setup() {
        app.api.addEventListener("promptQueued", () => {
            if (!app.graph.nodes.some(node => OURS.test(node.type))) return
            for (const { title, sentence } of refusals(app.lastNodeErrors))
                app.extensionManager.toast.add({
                    severity: "error",
                    summary: `${title}: refused, with all that follows it`,
                    detail: sentence,
                    life: SHOWN_MS,
                })
        })
    },
})
