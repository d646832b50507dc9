"""Files and folders that hold training logs: one reader a format, and what to look for in a folder.

    files        one file, or a folder that is one run -> raw rows
    folders      which runs lie in a folder
    trial_folder what a training script printed and wrote in its trial's folder -> rows
    tabular, json_text, printed, tensorboard, mlflow, wandb      the formats

What a file is follows from what it looks like, not from its name alone. Imported from outside:
`files`, `folders` and `trial_folder`.
"""
