"""The study: what gradient checks see and miss, over every primitive. ``python -m minigrad study``."""
