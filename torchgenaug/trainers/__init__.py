"""What trainers of other libraries need to know of a mix: its epoch, its pools, and that it is for training only.

`torchgenaug.lightning` is for Lightning, `torchgenaug.trainers.huggingface` for the Trainer of transformers, and
`torchgenaug.trainers.ignite` for MONAI's engines and ignite; `torchgenaug.trainers.nnunet` writes a data set.
"""
