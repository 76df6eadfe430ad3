"""What a run is started with in the frontend, and how it is watched."""

from __future__ import annotations

from screen import Screen

SET = """settings => { for (const [id, values] of Object.entries(settings))
    for (const [name, value] of Object.entries(values))
        app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value = value }"""
WATCH = """() => {
    const seen = window.seen = { steps: {}, previewed: [], ends: [] }
    window.listeners?.abort()
    const { signal } = window.listeners = new AbortController()
    const on = (name, call) => app.api.addEventListener(name, call, { signal })
    on('progress', ({ detail: { node, value, max } }) =>
        (seen.steps[node] ??= []).push([value, max]))
    on('b_preview_with_metadata', ({ detail }) => {  // heard after the frontend's own listener
        const id = String(detail.displayNodeId)
        if (app.nodePreviewImages[id]?.length && !seen.previewed.includes(id))
            seen.previewed.push(id)
    })
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
        on(name, ({ detail }) => seen.ends.push(
            [name, String(detail.node_id), detail.exception_message]))
}"""
IMAGES = """const images = (id, vue) => vue
    ? [...document.querySelectorAll(`[data-node-id="${id}"] img`)]
    : app.graph.getNodeById(id).imgs ?? []
const drawn = (id, vue) => images(id, vue).some(image => image.naturalWidth > 0)
"""
PICTURES = f"""([ids, vue]) => {{
    {IMAGES}
    return ids.every(id => app.nodeOutputs[id]?.images?.length && drawn(id, vue))
}}"""
WITH_PICTURES = (
    "GlitchContactSheet", "GlitchCrossModelLoraApplier", "GlitchGrid", "GlitchLoraTrainer",
    "GlitchLossGraph", "GlitchReport", "SaveImage",
)  # fmt: skip


def nodes_of(screen: Screen, *types: str) -> list[str]:
    """Return the ids of the nodes of some types."""
    script = "types => app.graph.nodes.filter(n => types.includes(n.type)).map(n => String(n.id))"
    found: list[str] = screen.page.evaluate(script, list(types))
    return found


def press(screen: Screen, label: str) -> None:
    """Press a button of the bar at the top; newer frontends name the menu beside Run alike."""
    screen.page.get_by_role("button", name=label, exact=True).first.click()
