"""Numbers and protocol of the paper, and other published results, which are not comparable because protocols differ."""

TABLE_1 = (  # Table I, arXiv 2010.03791: model, age accuracy, gender accuracy, AABD
    ("Attention CNN", 0.742, 0.552, 0.33),
    ("ResNet", 0.900, 0.965, 0.14),
    ("Ensemble", 0.913, 0.965, 0.11),
)
TABLE_2 = (  # Table II, arXiv 2010.03791: gender accuracy
    ("earlier work cited there", 0.9485),
    ("ensemble", 0.965),
)
PROTOCOL = {  # arXiv 2010.03791, sections 3 and 4
    "images": "9,780 of UTKFace, cropped and aligned, ages 1 to 110",
    "split": "sizes and seed not reported",
    "duplicates": "not mentioned; UTKFace has pixel-identical files, some with different labels, "
    "which a random split puts on both sides",
    "nets": "Residual Attention Network with three modules; ResNet, depth not reported (18 in the figure)",
    "input": "not reported (files are 200 x 200)",
    "initialization": "not reported",
    "optimizer": "Adam, rate 0.005, batch 16; schedule not reported",
    "epochs": "over 100",
    "augmentation": "not reported",
    "device": "one GPU",
    "gender head": "0.552 with the attention net, the majority rate (5,408 of 9,780): it had collapsed",
}
ANCHORS = (  # system, protocol, result
    (
        "ResNet-50, Facial-Age-Estimation-Benchmark",
        "UTKFace, five splits by image, all ages, 256 px, from scratch",
        "MAE 5.33 years",
    ),
    ("the same", "the same, ImageNet initialisation", "MAE 4.77 years"),
    ("the same", "the same, IMDB-WIKI initialisation", "MAE 4.37 years"),
    ("FaRL + MLP, same benchmark", "the same, pre-trained on many faces", "MAE 3.87 years"),
    ("MiVOLO (VOLO-D1, face)", "its own split of UTKFace", "MAE 4.23 years, gender 97.69 %"),
    ("face-api.js, 420 KB", "UTKFace", "MAE 5.25 years, gender 93 %"),
    ("MiVOLO", "FairFace validation, 9 age groups, other training data", "age 61.1 %, gender 95.7 %"),
    ("a hobby project", "UTKFace, six age groups, its own split", "age 74.0 %"),
)
