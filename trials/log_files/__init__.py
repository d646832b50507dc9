"""Readers of training logs: one per format, and the search for logs in a folder.

    files        one file, or a folder that is one run -> raw rows
    folders      which runs lie in a folder
    trial_folder what a training script printed and wrote in its trial's folder -> rows
    tabular, json_text, printed, tensorboard, mlflow, wandb      the formats

What a file is follows from what it looks like, not from its name alone. Imported from outside:
`files`, `folders` and `trial_folder`.
"""
