"""Glitching the Gaze: ComfyUI nodes that train glitch LoRAs and read what happened.

The host imports this file; nothing is imported here before it asks for the nodes.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    """Return the extension; called by the host once at start."""
    from .nodes import GlitchingTheGaze

    return GlitchingTheGaze()
