"""Complete study files to start from."""

from __future__ import annotations

EXAMPLES = {
    "digits": """\
# Three real digits per class. Does a generator that saw only these help the classifier?
# Run it:  torchgenaug study digits.toml --out digits-study
name = "digits, 3 per class"
steps = 300        # optimizer steps of every arm
seeds = 5          # initial weights and orders of samples
splits = 1         # how often the data are divided anew; 5 or more for an interval over patients
lengths = [1, 3]   # multiples of the steps: does a verdict depend on them? The first one decides
shares = [1.0]     # [0.1, 0.5] trains with these parts of the real data, too: learning curves

[data]
name = "digits"    # or a folder of images by class, or package.module:factory
per_class = 3      # real training samples per class; the other training samples are the oracle's
validation = 0.2   # fraction of the patients, or of the samples where no patients are known
test = 0.2         # or split = "FOLDER" of a model by `fit --split patients`: its held-out patients

[task]
kind = "classification"   # or "segmentation", of data with masks; 2D and 3D
network = "small"         # or "monai"
metric = "accuracy"       # or "balanced accuracy", "AUC", "sensitivity", "specificity"; "mean Dice", "-Hausdorff 95"
batch_size = 32
learning_rate = 3e-3

[synthetic]
family = "acgan"   # trained on the training data of each split; or model = "FOLDER", or shards = "FOLDER"
steps = 500
count = 200

[arms]
ratios = [0.25, 0.5, 0.75]
# Further arms, each ten runs more; set them to true.
elastic = false        # a further control: elastic deformation
filtered = false       # the half of the samples that a network of the real ones is surest of; and a random half
pretrained = false     # synthetic samples first, real ones then
schedule = false       # the synthetic fraction falls from the largest ratio to 0
pseudo_labels = false  # for comparison: what is left of the training data, labelled by a network
# transforms = "my_package.my_study:transforms"   # a function that returns your own TorchIO transforms: a control
""",
    "cross-modality": """\
# Masks exist for T1 slices, the segmenter is used on T2 slices. Does translating the labelled slices help?
# Simulated contrasts of one brain. Run it:  torchgenaug study cross-modality.toml --out cross-modality-study
name = "cross-modality, T1 to T2"

[cross_modality]
labelled = 16               # T1 slices with masks
translators = ["pix2pix"]   # trained on pairs without masks of other places; further ones: "cyclegan", "cut", ...
translator_steps = 400      # of each, and of the control "regression"
doses = [1.0]               # fractions of translated slices, of look-up table and regression, too; or [0.5, 1.0]
steps = 300                 # optimizer steps of the segmenter in every arm
seeds = 5                   # initial weights and orders of samples
batch_size = 4              # of the segmenter
# second_brain = "FOLDER"   # of ch2bet.nii.gz (Debian: mricron-data): an external test
""",
    "cross-modality-lesions": """\
# As cross-modality, but T2 is no function of T1: lesions look like grey matter on T1 and are bright on T2, and each
# image has its own bias field. A look-up table cannot be right here.
# Run it:  torchgenaug study cross-modality-lesions.toml --out cross-modality-lesions-study
name = "cross-modality with lesions, T1 to T2"

[cross_modality]
lesions = true
labelled = 16               # T1 slices with masks of tissues and lesions
translators = ["pix2pix"]   # trained on pairs without masks of other places
translator_steps = 3000     # of each, and of the control "regression"
doses = [1.0]               # fractions of translated slices, of look-up table and regression, too; or [0.5, 1.0]
steps = 300                 # optimizer steps of the segmenter in every arm
seeds = 5                   # initial weights and orders of samples
batch_size = 4              # of the segmenter
""",
    "few-labels": """\
# Two labelled digits per class here, 2,500 unlabelled ones at a site whose images may not leave it. Its generator may.
# Run it:  torchgenaug study few-labels.toml --out few-labels-study
name = "few labels, many unlabelled images elsewhere"

[few_labels]
per_class = 2            # labelled digits of each class
unlabelled = 2500        # digits at the other site, labelled there by a classifier of the few
generator_steps = 2000   # of acgan, at the other site
generated = 2000         # images that it hands out
steps = 300              # optimizer steps of the classifier in every arm
seeds = 5                # initial weights and orders of samples
lengths = [1]            # [1, 3] trains for 900 steps, too: does a verdict depend on it?
""",
    "lesions": """\
# Eight slices with a (simulated) lesion, many healthy ones. Does drawing lesions into the healthy ones help?
# Run it:  torchgenaug study lesions.toml --out lesions-study
name = "lesions into healthy slices"

[lesions]
labelled = 8             # slices with a lesion and its mask
inpainter_steps = 400    # of pix2pix, on these slices alone
steps = 300              # optimizer steps of the segmenter in every arm
seeds = 5                # initial weights and orders of samples
batch_size = 4           # of the segmenter
lengths = [1]
""",
    "rare-class": """\
# Three digits of which there are five images each, seventy of the others. Do generated images find the rare ones?
# Run it:  torchgenaug study rare-class.toml --out rare-class-study
name = "three rare classes"
steps = 200
seeds = 5

[data]
name = "digits"
per_class = 70
rare = [3, 5, 8]          # classes of which there are only
rare_count = 5            # images each
validation = 0.15
test = 0.15

[task]
kind = "classification"
metric = "rare recall"    # mean over the rare classes of how many of their images are found

[synthetic]
family = "acgan"          # trained on the same images
steps = 400
count = 1000

[arms]
ratios = [0.5]
rare_classes = true       # controls: oversampling, balanced loss; rare classes topped up with generated images
""",
    "new-masks": """\
# Sixteen slices with masks: does it help to move the masks, and to have spade paint new slices on them?
# Slices of one brain, split by slice. Run it:  torchgenaug study new-masks.toml --out new-masks-study
name = "new masks painted by spade"
steps = 200
seeds = 5

[data]
name = "brain"
per_class = 4             # of each of four levels; the other training slices are the oracle's
validation = 0.2
test = 0.3

[task]
kind = "segmentation"
width = 8
batch_size = 4
learning_rate = 6e-3

[synthetic]
family = "spade"          # trained on the sixteen slices
steps = 300
count = 64

[arms]
ratios = [0.5]
elastic = true            # the control that moves image and mask
""",
    "nuclei": """\
# Twelve tiles of fluorescent nuclei with masks: do a diffusion model's tiles, image and mask together, help?
# One field of one dish; tested on its lower part. Run it:  torchgenaug study nuclei.toml --out nuclei-study
name = "nuclei and their masks by ddpm"
steps = 200        # optimizer steps of every arm
seeds = 5          # initial weights and orders of samples

[data]
name = "nuclei"
per_class = 12     # training tiles; the other ones are the oracle's
held_out = true    # validation and test tiles are of another place

[task]
kind = "segmentation"
metric = "mean Dice"
width = 8
batch_size = 8
learning_rate = 6e-3

[synthetic]
family = "ddpm"    # trained on the twelve tiles
steps = 400
count = 48

[arms]
ratios = [0.5]
elastic = true     # the control that moves image and mask
""",
    "volumes": """\
# Four brain volumes with tissue masks: does it help to move the masks, and to have spade in 3D paint on them?
# One template, deformed. Run it:  torchgenaug study volumes.toml --out volumes-study
name = "3D brain volumes painted by spade"
steps = 100        # optimizer steps of every arm
seeds = 5          # initial weights and orders of samples

[data]
name = "brain-3d"
per_class = 4      # training volumes; the others are the oracle's
validation = 0.15
test = 0.25

[task]
kind = "segmentation"
metric = "mean Dice"
width = 8
batch_size = 2
learning_rate = 1e-2

[synthetic]
family = "spade"   # trained on the four volumes
steps = 150
batch_size = 2
count = 12

[arms]
ratios = [0.5]
elastic = true     # the control that moves image and mask
""",
    "missing-modality": """\
# A segmenter of T1 and T2; most training slices lost their T2. Does a generated T2 help? Simulated, with lesions.
# Run it:  torchgenaug study missing-modality.toml --out missing-modality-study
name = "missing T2"

[missing_modality]
complete = 4             # slices with both, for segmenter and translator
incomplete = 60          # slices with T1 alone
translator_steps = 300   # of pix2pix and of the control regression
steps = 200              # optimizer steps of the segmenter in every arm
seeds = 5                # initial weights and orders of samples
batch_size = 4           # of the segmenter
""",
    "own": """\
# Your own data, network and arms: a function without arguments that returns a torchgenaug.study.Study.
study = "my_package.my_study:build"
""",
}
"""Name → a complete file to start from."""
