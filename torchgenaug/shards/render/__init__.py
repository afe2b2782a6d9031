"""Renders a stretch of a sequence into a folder of shards: `render`, its frozen plan, its ranks and its watchdog."""
