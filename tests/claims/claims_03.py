"""Numbers in the prose of notebook 03."""

import facts

PAGE = "notebooks/03_alexnet.ipynb"
CLAIMS = [
    (PAGE, "On the paper's split our AlexNet recognises {:.1f} % of the clips, the paper's {:.1f} %.",
     lambda: facts.ours_and_the_papers("alexnet")),
    (PAGE, "Keeping twins together costs several points, keeping voices apart several more",
     lambda: facts.several_points_each("alexnet")),
    (PAGE, "Training accuracy ends above 95 % under all three protocols",
     lambda: facts.training_ends_above_95("alexnet")),
    (PAGE, "Neutral and sad are among the three emotions recognised least under each protocol.",
     lambda: facts.neutral_and_sad_are_hard("alexnet")),
]
