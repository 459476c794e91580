"""Numbers in the prose of notebook 05."""

import facts

PAGE = "notebooks/05_inceptionnet.ipynb"
CLAIMS = [
    (PAGE, "On the paper's split our InceptionNet recognises {:.1f} % of the clips, the paper's {:.1f} %.",
     lambda: facts.ours_and_the_papers("inceptionnet")),
    (PAGE, "Keeping twins together costs several points, keeping voices apart several more",
     lambda: facts.several_points_each("inceptionnet")),
    (PAGE, "Training accuracy ends above 95 % under all three protocols",
     lambda: facts.training_ends_above_95("inceptionnet")),
    (PAGE, "Neutral and sad are among the three emotions recognised least under each protocol.",
     lambda: facts.neutral_and_sad_are_hard("inceptionnet")),
    (PAGE, "on the paper's split InceptionNet is the least accurate of our seven.",
     lambda: facts.least_accurate_on_the_papers_split("inceptionnet")),
]
