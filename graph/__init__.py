"""The state graph: its state, its topology on one screen, its pure routes, and what advances it."""
