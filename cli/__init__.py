"""The chama command and the embedded stack. Imports everything, imported by nothing."""
