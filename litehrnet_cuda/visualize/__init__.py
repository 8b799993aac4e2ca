"""Pictures of results: poses and masks on images, sheets of images, curves and charts.

Images are ``[H, W, 3]`` uint8 BGR. Every function returns a new image and leaves its input as it is.
"""

from litehrnet_cuda.visualize.charts import plot_joint_errors, plot_training_curve
from litehrnet_cuda.visualize.masks import add_legend, draw_masks
from litehrnet_cuda.visualize.poses import CENTER, LEFT, RIGHT, draw_poses
from litehrnet_cuda.visualize.sheets import contact_sheet

__all__ = [
    "CENTER",
    "LEFT",
    "RIGHT",
    "add_legend",
    "contact_sheet",
    "draw_masks",
    "draw_poses",
    "plot_joint_errors",
    "plot_training_curve",
]
