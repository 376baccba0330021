"""From photos to aligned chips of faces: detection, alignment, and warnings about a face."""
