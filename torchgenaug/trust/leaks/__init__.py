"""Whether anything that a model or a mix has seen is in the data that judge it.

``real_images`` (images, ids and patients of a data set) · ``check`` (`check_leaks`) · ``validation``
(`validation_only`).
"""
