"""What the reproduced paper, the study of human listeners and other studies state: figures, no logic.

The paper: Aryono, Ferawati and Auliana (2024). Advanced Deep Learning Models For Emotion Detection In Speech: Applying
The Ravdess Dataset. JURASIK. https://tunasbangsa.ac.id/ejurnal/index.php/jurasik/article/view/815
"""

from typing import NamedTuple

# The seven networks, in the order of every table and figure.
MODEL_NAMES = {"alexnet": "AlexNet", "resnet": "ResNet", "inceptionnet": "InceptionNet", "vgg16": "VGG16",
               "vgg19": "VGG19", "lstm": "LSTM", "transformer": "Transformer"}

TABLE1 = {"train": 960, "val": 240, "test": 240}  # clips in each part of the split

TABLE2 = {  # model -> (accuracy, precision, recall, F1), per cent
    "alexnet": (78.4, 79.1, 78.0, 78.5),
    "resnet": (83.6, 84.0, 83.2, 83.6),
    "inceptionnet": (81.2, 81.7, 80.9, 81.3),
    "vgg16": (85.0, 85.5, 84.8, 85.1),
    "vgg19": (85.5, 85.9, 85.2, 85.6),
    "lstm": (79.8, 80.2, 79.5, 79.9),
    "transformer": (87.3, 87.7, 87.0, 87.4)}

# Listeners who heard the same recordings (audio only, speech); per cent of answers that name the intended emotion
# (Livingstone and Russo 2018, https://doi.org/10.1371/journal.pone.0196391). They chose among the eight and "none of
# these"; neutral and calm were accepted for each other, which leaves seven emotions to tell apart.
HUMAN = {
    "overall": 62.4,
    "emotion": {"neutral": 81.7, "calm": 81.7, "happy": 36.6, "sad": 47.9, "angry": 74.6, "fearful": 66.2,
                "disgust": 51.9, "surprised": 67.9},  # one figure for neutral and calm together
    "intensity": {"normal": 58.0, "strong": 67.4}, "gender": {"female": 66.1, "male": 58.6}}  # of the actor


class Published(NamedTuple):
    """What another study reports for RAVDESS speech and eight emotions."""

    system: str
    kind: str                     # "scratch", "features" (by hand) or "pretrained" (on other speech)
    uar: float                    # unweighted average recall, per cent
    interval: tuple | None        # of 95 %, over speakers, where it is given
    folds: str                    # SAME_FOLDS if they are those of the protocol ``actors``
    source: str
    url: str


SAME_FOLDS = "the same six"
_EMOBOX = (None, SAME_FOLDS, "Ma et al. 2024 (EmoBox)", "https://doi.org/10.21437/Interspeech.2024-788")
_ONE_OUT = "24, one speaker each"
_SOHAIL = (_ONE_OUT, "Sohail 2026", "https://github.com/hsn07pk/ravdess-speaker-independent-ser")
UNSEEN = (  # speakers that were not trained on
    Published("Residual LSTM with attention", "scratch", 62.3, None, "five",  # ten trainings, tuned on test
              "Krasnoproshin and Vashkevich 2026", "https://arxiv.org/abs/2606.03359"),
    Published("Logistic regression on eGeMAPS", "features", 53.1, (49.5, 56.4), *_SOHAIL),
    Published("Logistic regression on ComParE", "features", 63.6, (59.0, 68.4), *_SOHAIL),
    Published("HuBERT large", "pretrained", 70.0, *_EMOBOX),
    Published("WavLM large", "pretrained", 72.0, *_EMOBOX),
    Published("Whisper large v3", "pretrained", 75.3, *_EMOBOX),
    Published("Logistic regression on Whisper large", "pretrained", 79.3, None, _ONE_OUT,
              "George and P 2025", "https://doi.org/10.1016/j.fraope.2025.100403"),
    Published("Logistic regression on WavLM large", "pretrained", 81.3, (77.1, 85.2), *_SOHAIL),
    Published("Logistic regression on XLS-R 300M", "pretrained", 81.9, (77.8, 85.9), *_SOHAIL))
SMALLER = {"HuBERT base": 66.2, "WavLM base": 62.1}  # accuracy, same folds: https://emo-box.github.io/leaderboard1.html

# Known voices: clips split at random into ten folds. The authors of TIM-Net measured all three anew, after the figures
# that the papers print had come from the epoch that was best on the test clips.
TEN_FOLDS = 1296  # clips in training
_TIMNET = (None, "ten", "Ye et al. 2023 (TIM-Net)", "https://github.com/Jiaxin-Ye/TIM-Net_SER")
KNOWN = (Published("CPAC", "scratch", 81.3, *_TIMNET), Published("GM-TCNet", "scratch", 82.8, *_TIMNET),
         Published("TIM-Net", "scratch", 90.0, *_TIMNET))
