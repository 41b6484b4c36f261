"""The words of the house: frozen models and enums that every other package speaks.

No input or output, no clock, no environment, no third-party service types may live here;
only meaning. Nothing in this folder imports from any other folder of the project.
"""
