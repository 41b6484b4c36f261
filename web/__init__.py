"""The edge: raw HTTP becomes domain events, stored facts become JSON and pages. No decisions here."""
