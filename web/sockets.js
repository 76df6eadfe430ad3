// ComfyUI's Train LoRA lost its first output after 0.3.75 and got widgets between the others, where a
// workflow names both by their place. In a workflow of the one, wires and values are put where the
// other has them.
import { app } from "../../scripts/app.js"

const TRAINER = "TrainLoraNode"
const TYPES = ["LORA_MODEL", "LOSS_MAP"]
const AFTER_THE_SEED = "control_after_generate"  // a widget that the frontend adds

/** Point the wires of a node at the outputs that have their type here. */
function moveWires(workflow, node, places) {
    for (const link of workflow.links ?? [])
        if (link[1] === node.id && TYPES.includes(link[5])) link[2] = places.get(link[5])
    node.outputs = (node.outputs ?? []).filter(({ type }) => places.has(type))
        .sort((a, b) => places.get(a.type) - places.get(b.type))
}

/** Put a node's values into this host's order; what the file does not have gets its default. */
function moveValues(node, required) {
    const named = name => name === "seed" ? [name, AFTER_THE_SEED] : [name]
    const names = (node.inputs ?? []).filter(input => input.widget)
        .flatMap(input => named(input.widget.name))
    const values = node.widgets_values ?? []
    if (!names.length || names.length !== values.length) return  // the file does not name them
    const known = new Map(names.map((name, place) => [name, values[place]]))
    node.widgets_values = Object.entries(required).flatMap(([name, [, options]]) =>
        options && "default" in options
            ? named(name).map(one => known.has(one) ? known.get(one) : options.default)
            : [])
}

app.registerExtension({
    name: "glitchingthegaze.sockets",
    beforeConfigureGraph(workflow) {
        const about = LiteGraph.registered_node_types[TRAINER]?.nodeData
        const places = new Map((about?.output ?? []).map((type, place) => [type, place]))
        if (!TYPES.every(type => places.has(type))) return
        for (const node of workflow.nodes ?? []) {
            if (node.type !== TRAINER) continue
            moveWires(workflow, node, places)
            moveValues(node, about.input?.required ?? {})
        }
    },
})
