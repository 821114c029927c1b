"""From recorded runs to statistics, findings, figures and pages."""

import logging

# Matplotlib lists the fonts of a new machine when it is imported, and warns that this takes long.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
