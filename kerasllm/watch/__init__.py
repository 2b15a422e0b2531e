"""A page that shows runs while they train and afterwards; it only reads their directories."""
