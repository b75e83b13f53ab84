"""Network parts shared by the stages."""
