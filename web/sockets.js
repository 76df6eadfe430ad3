// ComfyUI's Train LoRA lost its first output after 0.3.75 and got widgets between the others, where a
// workflow names both by their place. In a workflow of the one, wires and values are put where the
// other has them.
import { app } from "../../scripts/app.js"

const TRAINER = "TrainLoraNode"
const TYPES = ["LORA_MODEL", "LOSS_MAP"]
const saved = new Map()  // values by name, by the node's id, until its node is made

/** Return a saved node's values by name; nothing where the file does not name them. */
function namedValues({ inputs = [], widgets_values: values = [] }) {
    const names = inputs.filter(input => input.widget).flatMap(({ widget: { name } }) =>
        name === "seed" ? [name, "after the seed"] : [name])
    if (!names.length || names.length !== values.length) return undefined
    return new Map(names.map((name, place) => [name, values[place]]))
}

/** Point the wires of a node at the outputs that have their type here. */
function moveWires(workflow, node, places) {
    for (const link of workflow.links ?? [])
        if (link[1] === node.id && TYPES.includes(link[5])) link[2] = places.get(link[5])
    node.outputs = (node.outputs ?? []).filter(({ type }) => places.has(type))
        .sort((a, b) => places.get(a.type) - places.get(b.type))
}

app.registerExtension({
    name: "glitchingthegaze.sockets",
    beforeConfigureGraph(workflow) {
        const outputs = LiteGraph.registered_node_types[TRAINER]?.nodeData?.output ?? []
        const places = new Map(outputs.map((type, place) => [type, place]))
        saved.clear()
        for (const node of workflow.nodes ?? []) {
            if (node.type !== TRAINER || !TYPES.every(type => places.has(type))) continue
            moveWires(workflow, node, places)
            const values = namedValues(node)
            if (!values) continue
            saved.set(node.id, values)
            delete node.widgets_values
        }
    },
    loadedGraphNode(node) {
        if (node.type !== TRAINER || !saved.has(node.id)) return
        for (const widget of node.widgets)
            if (saved.get(node.id).has(widget.name)) widget.value = saved.get(node.id).get(widget.name)
    },
})
