// Two things that the frontend leaves out. A word when a part of a workflow was refused while the
// rest of it runs: it then only draws a red frame, and what ran looks like all there was. And nodes
// as tall as what they show: advanced inputs stand folded in classic nodes too, which no frontend does,
// and a text box has the height of its text.
import { app } from "../../scripts/app.js"

const OURS = /^Glitch[A-Z]/
const SHOWN_MS = 20_000
const LONGEST = 300  // of the host's own sentences, which may list every file that it has
const ALWAYS_SHOWN = "Comfy.Node.AlwaysShowAdvancedWidgets"  // a setting that older frontends lack
const NO_ROOM = () => [0, -4]  // a classic node adds 4 pixels below each widget
const HTML_NODES = "Comfy.VueNodes.Enabled"
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

/** Give a node the height that its widgets ask for, and no more. */
function fitHeight(node) {
    node.setSize([node.size[0], node.computeSize()[1]])
}

/**
 * Fold the advanced inputs, but for those that a wire comes to; return how many there are.
 *
 * HTML nodes fold what is called advanced, with a button of their own. Classic nodes would keep its
 * room: there it is hidden, and takes none.
 */
function fold(node) {
    const isHtml = LiteGraph.vueNodesMode
    const wired = new Set(node.inputs.filter(slot => slot.link != null).map(slot => slot.widget?.name))
    const advanced = node.widgets.filter(widget => widget.options?.advanced)
    for (const widget of advanced) {
        widget.advanced = Boolean(isHtml)
        widget.hidden = !isHtml && !node.showAdvanced && !wired.has(widget.name)
        if (widget.hidden) widget.computeSize = NO_ROOM
        else delete widget.computeSize
    }
    return advanced.length
}

/** Fold the advanced inputs of a new node, behind a button where it is a classic one. */
function addFold(node) {
    const count = fold(node)
    if (!count) return
    const button = node.addWidget("button", "advanced", null, () => {
        show(!node.showAdvanced)
        fitHeight(node)
    }, { serialize: false, canvasOnly: true })
    button.serialize = false
    const show = isShown => {
        node.showAdvanced = isShown
        button.label = isShown ? "Hide advanced inputs" : `Show ${count} advanced inputs`
        fold(node)
    }
    const showAlways = () => Boolean(app.extensionManager?.setting?.get(ALWAYS_SHOWN))
    const after = (event, call) => {
        const before = node[event]
        node[event] = function (...told) {
            before?.apply(this, told)
            call()
        }
    }
    show(showAlways())
    after("onConnectionsChange", () => fold(node))
    after("onConfigure", () => {  // a node that was saved with room for all of them shows them
        show(true)
        show(showAlways() || node.size[1] >= node.computeSize()[1])
    })
}

app.registerExtension({
    name: "glitchingthegaze.nodes",  // below the pack's display name, so that no other has it
    nodeCreated(node) {
        if (!OURS.test(node.comfyClass) || !node.widgets) return
        for (const widget of node.widgets.filter(one => one.element?.tagName === "TEXTAREA"))
            widget.options.getMinHeight = () => textHeight(widget.value, node.size[0])
        addFold(node)
        fitHeight(node)
    },
    setup() {
        const foldAll = () => {
            for (const node of app.graph.nodes) if (OURS.test(node.comfyClass)) fold(node)
        }
        // A moment later: then LiteGraph has heard of it too.
        app.ui.settings.addEventListener(`${HTML_NODES}.change`, () => setTimeout(foldAll))
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
