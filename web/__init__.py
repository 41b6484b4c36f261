"""The edge: raw HTTP becomes domain events, facts become JSON and pages. Nothing decides here."""
