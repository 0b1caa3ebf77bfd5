"""The pages' skeletons, and the frame around them. Callbacks fill them (`callbacks.py`)."""
