"""From photos to aligned chips of faces: finding pictures, detection, alignment, warnings about a face."""
