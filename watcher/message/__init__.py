"""What a channel is told: pure words, cut and cleaned for the service that carries them."""

from watcher.message.render import Rendered, body, no_page, notice, render, test_message, title
from watcher.message.style import DOCUMENT, Markup, Style, cut, neutral

__all__ = [
    "DOCUMENT",
    "Markup",
    "Rendered",
    "Style",
    "body",
    "cut",
    "neutral",
    "no_page",
    "notice",
    "render",
    "test_message",
    "title",
]
