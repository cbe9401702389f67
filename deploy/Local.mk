# Files that deployment needs
