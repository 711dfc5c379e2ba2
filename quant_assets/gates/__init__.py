"""Gates: what each asks, how it is judged, and the verdicts that promotion stands on."""
