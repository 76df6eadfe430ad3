// A word when a part of a workflow was refused while the rest of it runs: the frontend then only
// draws a red frame, and what ran looks like all there was.
import { app } from "../../scripts/app.js"

const OURS = /^Glitch[A-Z]/
const SHOWN_MS = 20_000
const LONGEST = 300  // of the host's own sentences, which may list every file that it has

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

app.registerExtension({
    name: "glitching-the-gaze",
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
