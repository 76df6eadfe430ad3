"""What a person does in the frontend: open a template, add a node, draw a wire, press Run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortened import skip_without_its_nodes

from workflow_maker.ui_file import PACK_ID

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

WORKFLOWS = Path(__file__).parents[2] / "workflows"
PATIENCE_MS = 300_000
ATTEMPTS = 60
DRAGGED_MS = 1_500
_IS_WIRED = """([source, target, slot]) => {
    const link = app.graph.getNodeById(target).inputs[slot].link
    return link != null && app.graph.getLink(link).origin_id == source  // a text in frontend 1.49
}"""
_HANGS = "app.graph.nodes.some(node => node.flags.ghost)"
CLICKS = 15
IS_RED = """(node => /(border|outline)-\\S*error/.test(node.className)
    || [...node.children].some(part => /(^| )ring-(destructive|warning)/.test(part.className)))"""
"""Whether an HTML node says a fault: by its frame, or by a ring in it since frontend 1.49."""
TEMPLATE_SEARCH = "input[placeholder^='Search templates']"  # of frontend 1.27, which shows twelve
ANY_CARD = ", ".join(
    f"[data-testid=template-workflow-{path.stem}]" for path in sorted(WORKFLOWS.glob("*.json"))
)
SEARCH_BOX = "input[placeholder*='Search Nodes'], [role=search] input[role=combobox]"
"""The one of older frontends, and the one of frontend 1.49."""
NOT_OURS = (
    # The host ships no templates of its own, and a new user has no files yet.
    "/templates/index.json",
    "/api/userdata",
    "/user.css",
    "/favicon.ico",
    # Nothing outside the host may be asked.
    "api.comfy.org",
    "z_image_turbo",  # a model of the workflow that newer frontends begin with
    "Error loading core workflow templates",
)
"""Parts of messages that every frontend writes on a fresh host without this pack too."""
VALUE = """([id, name]) =>
    app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value"""
MIDDLE = """([id, name]) => {
    const node = app.graph.getNodeById(id)
    const widget = node.widgets.find(widget => widget.name === name)
    const { scale, offset } = app.canvas.ds
    const box = app.canvas.canvas.getBoundingClientRect()
    const [x, y] = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + 10]
    return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale]
}"""
"""Where the middle of a classic node's widget is, in the window."""


@dataclasses.dataclass
class Screen:
    """One open frontend.

    Attributes:
        page: the page.
        vue: whether nodes are drawn as HTML.
        errors: what went wrong in it, since :meth:`forget`.
    """

    page: Page
    vue: bool
    errors: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        said = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not any(part in said for part in NOT_OURS):
            self.errors.append(said)

    def forget(self) -> None:
        """Forget the errors so far."""
        self.errors.clear()

    def open_template(self, name: str) -> dict[str, Any]:
        """Open a workflow by a click on its card in the template browser; return its file."""
        skip_without_its_nodes(
            name, self.page.evaluate("Object.keys(LiteGraph.registered_node_types)")
        )
        shown = self.choose_template(name)
        if self.vue:
            self.fit()
            self.wait_for(
                "count => document.querySelectorAll('[data-node-id]').length === count",
                len(shown["nodes"]),
            )
        return shown

    def choose_template(self, name: str) -> dict[str, Any]:
        """Click its card until it opens (a busy machine may lose a click); return its file.

        What is in sight then is what the frontend shows.
        """
        from playwright.sync_api import TimeoutError as NotYet

        shown: dict[str, Any] = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
        titles = sorted(node["title"] for node in shown["nodes"])
        card = self.page.locator(f"[data-testid=template-workflow-{name}]")
        # Newer hosts show templates of their own first, and ours behind the pack's name.
        pack = self.page.locator("[role=dialog]").get_by_text(PACK_ID, exact=True)
        for _ in range(CLICKS):
            if not card.is_visible():
                if not pack.first.is_visible():
                    self.page.locator("button[aria-label=Templates]").click()
                pack.or_(card).first.wait_for(timeout=PATIENCE_MS)
            if not card.is_visible():
                pack.first.click()
                try:
                    self.page.locator(ANY_CARD).first.wait_for(timeout=PATIENCE_MS / CLICKS)
                except NotYet:
                    continue
            if not card.is_visible():
                self.page.locator(TEMPLATE_SEARCH).fill(name)
            card.click(timeout=PATIENCE_MS)
            try:
                self.page.wait_for_function(
                    "titles => JSON.stringify(app.graph.nodes.map(n => n.title).sort())"
                    " === JSON.stringify(titles)",
                    arg=titles,
                    timeout=PATIENCE_MS / CLICKS,
                )
            except NotYet:
                continue
            return shown
        raise AssertionError(f"the template {name} did not open")

    def choose(self, node: int, widget: str, value: str) -> None:
        """Choose an entry of a list, with two clicks.

        Args:
            node: Id of the node, which is in sight.
            widget: The widget's name.
            value: What is chosen.
        """
        if self.vue:
            now = self.page.evaluate(VALUE, [node, widget])
            box = self.page.locator(f'[data-node-id="{node}"]')
            box.get_by_text(now, exact=True).first.click(timeout=PATIENCE_MS)
            option = self.page.locator("[role=option]")
        else:
            self.page.mouse.click(*self.page.evaluate(MIDDLE, [node, widget]))
            option = self.page.locator(".litecontextmenu .litemenu-entry")
        option.filter(has_text=value).first.click(timeout=PATIENCE_MS)
        self.wait_for(f"([told, value]) => ({VALUE})(told) === value", [[node, widget], value])

    def fit(self) -> None:
        """Show the whole graph."""
        self.page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")

    def settle(self) -> None:
        """Wait until what was changed is drawn: until then clicks find nodes where they were."""
        self.page.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def wait_for(self, expression: str, argument: Any = None) -> None:
        """Wait until something is so."""
        self.page.wait_for_function(expression, arg=argument, timeout=PATIENCE_MS)

    def rectangles(self) -> dict[str, list[float]]:
        """Return left, top, right and bottom of each node as it is drawn, by its id."""
        script = """vue => Object.fromEntries(app.graph.nodes.map(node => {
            if (!vue) {
                const [x, y, width, height] = node.boundingRect
                return [node.id, [x, y, x + width, y + height]]
            }
            const box = document.querySelector(`[data-node-id="${node.id}"]`)
                .getBoundingClientRect()
            return [node.id, [box.left, box.top, box.right, box.bottom]]
        }))"""
        found: dict[str, list[float]] = self.page.evaluate(script, self.vue)
        return found

    def add_node(self, title: str, at: tuple[int, int]) -> int:
        """Add a node with the search box, as a double click on the canvas opens it.

        Args:
            title: What is typed and chosen.
            at: Where it is put afterwards, on the canvas.

        Returns:
            Its id.
        """
        before = self.page.evaluate("app.graph.nodes.map(node => node.id)")
        move = "([x, y]) => { app.canvas.ds.offset = [-x, -y - 5000]; app.canvas.draw(true, true) }"
        self.page.evaluate(move, list(at))
        self.settle()
        self.wait_for("document.elementFromPoint(900, 700)?.tagName === 'CANVAS'")
        self._open_search_box()
        self.page.keyboard.type(title)
        option = self.page.locator("[role=option]").filter(has_text=title).first
        option.click(timeout=PATIENCE_MS)
        self.wait_for("count => app.graph.nodes.length > count", len(before))
        script = """([before, at]) => {
            const node = app.graph.nodes.find(node => !before.includes(node.id))
            node.pos = at
            return node.id
        }"""
        self._put_down()
        return int(self.page.evaluate(script, [before, list(at)]))

    def _put_down(self) -> None:
        """Click until the new node, which frontend 1.49 hangs on the mouse, is let go."""
        from playwright.sync_api import TimeoutError as NotYet

        for _ in range(ATTEMPTS):
            if not self.page.evaluate(_HANGS):
                return
            self.page.mouse.click(900, 700)  # which the search box catches while it fades
            with contextlib.suppress(NotYet):
                self.page.wait_for_function(f"!({_HANGS})", timeout=DRAGGED_MS)
        raise AssertionError("the new node hangs on the mouse")

    def _open_search_box(self) -> None:
        """Double-click until it opens: on a busy machine two clicks may come too far apart."""
        from playwright.sync_api import TimeoutError as NotYet

        box = self.page.locator(SEARCH_BOX)
        for _ in range(ATTEMPTS):
            self.page.mouse.dblclick(900, 700)
            try:
                box.wait_for(timeout=PATIENCE_MS / ATTEMPTS)
            except NotYet:
                continue
            return
        raise AssertionError("the search box did not open")

    def draw_wire(self, source: int, output: int, target: int, slot: int) -> None:
        """Drag from an output to an input, with the two nodes side by side.

        HTML nodes stand still when their place is set from outside: there the wire is made
        through the graph, and only what it then shows is the frontend's.

        Args:
            source: Id of the node that gives.
            output: Number of its output.
            target: Id of the node that takes.
            slot: Number of its input.
        """
        if self.vue:
            connect = "([source, output, target, slot]) => app.graph.getNodeById(source)" \
                ".connect(output, app.graph.getNodeById(target), slot)"  # fmt: skip
            self.page.evaluate(connect, [source, output, target, slot])
        else:
            self._drag_until_held(source, output, target, slot)
        self.wait_for(_IS_WIRED, [source, target, slot])
        if not self.vue:  # out of the next wire's way
            away = "ids => { for (const id of ids) app.graph.getNodeById(id).pos = [id * 3000, 0] }"
            self.page.evaluate(away, [source, target])

    def _drag_until_held(self, source: int, output: int, target: int, slot: int) -> None:
        """Drag again where the wire was dropped: a node may grow while the mouse is on its way."""
        from playwright.sync_api import TimeoutError as NotYet

        for _ in range(ATTEMPTS):
            self._drag(source, output, target, slot)
            with contextlib.suppress(NotYet):
                self.page.wait_for_function(
                    _IS_WIRED, arg=[source, target, slot], timeout=DRAGGED_MS
                )
                return
            self.page.keyboard.press("Escape")  # what was dropped on the canvas opens a search

    def _drag(self, source: int, output: int, target: int, slot: int) -> None:
        script = """([source, output, target, slot]) => {
            const [from, to] = [source, target].map(id => app.graph.getNodeById(id))
            from.pos = [20000, 20000]
            to.pos = [20000 + from.size[0] + 150, 20000]
            app.canvas.ds.scale = 0.8
            app.canvas.ds.offset = [-19800, -19800]
            app.canvas.setDirty(true, true)
        }"""
        self.page.evaluate(script, [source, output, target, slot])
        self.settle()
        start, end = self._socket(source, output, False), self._socket(target, slot, True)
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def _socket(self, node: int, slot: int, is_input: bool) -> tuple[float, float]:
        script = """([id, slot, isInput]) => {
            const node = app.graph.getNodeById(id)
            const [x, y] = isInput ? node.getInputPos(slot) : node.getOutputPos(slot)
            const { scale, offset } = app.canvas.ds
            const box = app.canvas.canvas.getBoundingClientRect()
            return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale]
        }"""
        x, y = self.page.evaluate(script, [node, slot, is_input])
        return x, y
