// One notice when Run was refused. It says what is still to choose, and what else was refused with
// which sentence: the frontend shows the host's own list of faults, or draws red frames while the rest
// of the workflow runs, and what ran then looks like all there was.
import { app } from "../../scripts/app.js"

const OURS = /^Glitch[A-Z]/
const SHOWN_MS = 20_000
const LONGEST = 300  // of the host's own sentences, which may list every file that it has
const NOT_CHOSEN = /^choose a .*\/$/  // what a list of ours begins with: nodes/folders.py

/** Whether the host asks for a choice: ours is not made yet, or what is chosen is not there. */
function isChoice({ type, extra_info }) {
    return type === "value_not_in_list" || NOT_CHOSEN.test(extra_info?.received_value)
}

/** What the host says of one input. */
function sentence({ type, message, details, extra_info }) {
    return type === "custom_validation_failed"
        ? details.replace(`${extra_info?.input_name} - `, "")
        : `${message}: ${details}`.slice(0, LONGEST)
}

/** What was refused, as the one notice says it: what is to choose, and all other sentences, once. */
function refusal(nodeErrors) {
    const choices = []
    const sentences = new Set()
    for (const [id, { errors }] of Object.entries(nodeErrors ?? {})) {
        const title = app.graph.getNodeById(id)?.title ?? id
        for (const error of errors) {
            if (isChoice(error)) choices.push(`${error.extra_info.input_name} in “${title}”`)
            else sentences.add(`${title}: ${sentence(error)}`)
        }
    }
    const still = choices.length ? [`Still to choose: ${choices.join(", ")}.`] : []
    return [...still, ...sentences]
}

app.registerExtension({
    name: "glitchingthegaze.notice",
    setup() {
        app.api.addEventListener("promptQueued", () => {
            if (!app.graph.nodes.some(node => OURS.test(node.type))) return
            const said = refusal(app.lastNodeErrors)
            if (!said.length) return
            app.extensionManager.toast.add({
                severity: "error",
                summary: "Refused, with all that follows it",
                detail: said.join(" "),
                life: SHOWN_MS,
            })
        })
    },
})
