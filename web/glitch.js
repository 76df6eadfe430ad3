// What the frontend leaves out: nodes as tall as what they show. A text box has the height of its
// text, and grows while one writes.
import { app } from "../../scripts/app.js"

const OURS = /^Glitch[A-Z]/
const LINE_PX = 15  // a line of the frontend's text boxes, of letters of this width
const LETTER_PX = 6
const EDGES_PX = 30  // beside a text box and inside it
const MOST_LINES = 12  // the rest is scrolled
const MARK = "data-glitch-text"  // Nodes 2.0 hands options that it does not know on to the box
const HTML_BOXES = `.lg-node textarea[${MARK}] { field-sizing: content; max-height: 40em; }`

/** The height in pixels that a text needs in a classic node's box, the node as wide as this. */
function textHeight(text, width) {
    const letters = Math.max(1, Math.floor((width - EDGES_PX) / LETTER_PX))
    const lines = String(text ?? "").split("\n")
        .reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0)
    return LINE_PX * Math.min(MOST_LINES, lines) + EDGES_PX
}

app.registerExtension({
    name: "glitchingthegaze.nodes",  // below the pack's display name, so that no other has it
    setup() {
        document.head.append(Object.assign(document.createElement("style"), { textContent: HTML_BOXES }))
    },
    nodeCreated(node) {
        if (!OURS.test(node.comfyClass) || !node.widgets) return
        for (const widget of node.widgets.filter(one => one.element?.tagName === "TEXTAREA")) {
            widget.options.getMinHeight = () => textHeight(widget.value, node.size[0])
            widget.options[MARK] = ""
            widget.element.addEventListener("input", () => app.canvas.setDirty(true, true))
        }
        node.setSize([node.size[0], node.computeSize()[1]])
    },
})
