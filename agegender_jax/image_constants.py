"""Constants of images and faces that several packages share: plain tuples, so that each user chooses the dtype."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB of pixels in [0, 1]; `data.normalize` subtracts it
IMAGENET_STD = (0.229, 0.224, 0.225)  # RGB of pixels in [0, 1]; `data.normalize` divides by it
LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B in a grey value, ITU-R BT.601
# Positions (x, y) of an aligned face's landmarks, in fractions of the chip's side: its left and right eye in the
# picture, nose, left and right corner of the mouth. They are medians over 600 chips of UTKFace, which are aligned by 68
# landmarks of dlib.
LANDMARKS = ((0.277, 0.297), (0.691, 0.297), (0.478, 0.528), (0.305, 0.675), (0.677, 0.670))
