"""Captions and alternative texts of the figures in report.html."""

CAPTIONS = {  # file: (caption, alternative text)
    "curves.png": (
        "Learning curves. Train points are means since the previous point and include label smoothing; val points are "
        "evaluations. A ring marks the evaluated checkpoint.",
        "Line plots over epochs of loss, age accuracy and gender accuracy, train and val, one colour per member.",
    ),
    "ages.png": (
        "Ages of all images of the source by gender (Fig. 9 of the paper).",
        "Bar charts of the number of images per year and per age group, stacked by gender.",
    ),
    "grid.png": (
        "Faces of the evaluated split across the age groups, with their labelled ages (Fig. 10 of the paper).",
        "A grid of faces: age groups from left to right, men in the upper rows, women in the lower ones.",
    ),
    "samples.png": (
        "Sample predictions, wrong ones in bold orange, with the label below each picture (Fig. 12 of the paper).",
        "Faces with the predicted gender and age bucket above each and the label below.",
    ),
    "mistakes.png": (
        "The most confident errors of each head with their probabilities. Labels of real faces may be wrong too.",
        "Faces with the most confident wrong predictions, prediction above and label below.",
    ),
    "scores.png": (
        "P(female) for the images of each true class (Fig. 11 of the paper). The vertical scale is a square root.",
        "Histogram of the predicted probability of female for male and female faces.",
    ),
    "expected_age.png": (
        "Expected age (bucket probabilities times mean training ages of the buckets) against the label, and its error.",
        "Density plot of expected against true age with the identity line, and mean errors of five age bands.",
    ),
    "confusion_age.png": (
        "Age buckets: counts and shares of the true class (Fig. 13 of the paper). Buckets without images are left out.",
        "Two confusion matrices of the age buckets.",
    ),
    "confusion_gender.png": (
        "Gender: counts and shares of the true class (Fig. 14 of the paper).",
        "Two confusion matrices of the two genders.",
    ),
    "reliability.png": (
        "Reliability: accuracy of the predictions per confidence bin, before and after temperature scaling, and the "
        "number of images per bin.",
        "Curves of accuracy against confidence for the age and the gender head, above histograms of confidence.",
    ),
    "groups.png": (
        "Scores of each group with 95 % intervals; hollow markers for groups of fewer than 30 images.",
        "Dot plot of age accuracy, gender accuracy and AABD by gender, race and age group.",
    ),
}
ATTENTION = (
    "Soft masks of {}, averaged over channels, one row per attention module (Figs. 1 and 15 of the paper), upsampled "
    "linearly with aligned corners as in the net. Each picture has its own scale from dark to bright, given below it: "
    "where its two ends are close, the mask hardly varies.",
    "Faces, and below them the same faces under the mask of each attention module.",
)
ALTERNATIVE = {  # of figures by the first word of their names
    "explanations": "Faces, one per row, under the maps of every method for the age and the gender prediction.",
    "patches": "Faces, one per row, the weights of their patches, and the patches of the largest weights.",
    "relevance": "Faces, and below them one row per net: its relevance map over each face, its prediction, its scores.",
}
