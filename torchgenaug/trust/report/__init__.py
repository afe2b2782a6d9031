"""Whether synthetic images are fit for use: `evaluate`, its report in HTML and JSON, and the verdict.

``image_set`` (what is compared, checked) · ``profiles`` (intensities and spatial frequencies) · ``copying`` and
``repeats`` · ``verdict`` (the rules) · ``evaluation`` (the result) · ``evaluate`` · ``picture_data``, ``drawings`` and
``page`` (the report that a physician reads).
"""
