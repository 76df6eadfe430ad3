// A shipped workflow opens at its beginning, where the words can be read: newer frontends fit a whole
// template into the window instead of showing the part that its file names.
import { app } from "../../scripts/app.js"

const MARK = "glitchOpensAtView"  // set by tools/workflow_maker in the files that it writes
const FRAMES = 3  // until the frontend has shown the whole

/** Call after some frames. */
function later(frames, call) {
    requestAnimationFrame(() => frames > 1 ? later(frames - 1, call) : call())
}

app.registerExtension({
    name: "glitchingthegaze.opening",
    afterConfigureGraph() {
        const extra = app.graph.extra
        if (!extra?.[MARK]) return
        delete extra[MARK]  // once: what is saved later, or undone, opens where it was
        const { scale, offset: [x, y] } = extra.ds
        later(FRAMES, () => {
            app.canvas.ds.changeScale(scale)
            app.canvas.ds.offset[0] = x
            app.canvas.ds.offset[1] = y
            app.canvas.setDirty(true, true)
        })
    },
})
