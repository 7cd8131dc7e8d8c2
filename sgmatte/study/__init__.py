"""What enhancement does to mattes, and what generated portraits do for training: claims as commands."""
