// One notice when Run was refused. It says what is still to choose, and what else was refused with
// which sentence: the frontend shows the host's own list of faults, or draws red frames while the rest
// of the workflow runs, and what ran then looks like all there was.
import { app } from "../../scripts/app.js"

const OURS = /^Glitch[A-Z]/
const SHOWN_MS = 20_000
const LONGEST = 300  // of the host's own sentences, which may list every file that it has
const NOT_CHOSEN = /^choose a .*\/$/  // what a list of ours begins with: nodes/folders.py

/** Whether the host asks for a choice: ours is not made yet, or what is chosen is not there. */
function isChoice(node, { type, extra_info }) {
    const widget = node?.widgets?.find(one => one.name === extra_info?.input_name)
    return type === "value_not_in_list" || Boolean(widget && NOT_CHOSEN.test(widget.value))
}

/** What the host says of one input. */
function sentence({ type, message, details, extra_info }) {
    return type === "custom_validation_failed"
        ? details.replace(`${extra_info?.input_name} - `, "")
        : `${message}: ${details}`.slice(0, LONGEST)
}

/**
 * What was refused, as the one notice says it: what is to choose, then all other sentences.
 *
 * The host blames every checked input of a node with the same sentence; it is told once.
 */
function refusal(nodeErrors) {
    const choices = []
    const sentences = new Set()
    for (const [id, { errors }] of Object.entries(nodeErrors ?? {})) {
        const node = app.graph.getNodeById(id)
        const title = node?.title ?? id
        const chosen = errors.filter(error => isChoice(node, error))
        const told = new Set(chosen.map(sentence))
        choices.push(...chosen.map(error => `${error.extra_info.input_name} in “${title}”`))
        for (const one of errors.map(sentence))
            if (!told.has(one)) sentences.add(`${title}: ${one}`)
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
