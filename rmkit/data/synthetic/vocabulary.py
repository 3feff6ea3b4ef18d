"""The words of the gold world: themes with their items, tones with their marks, and the pieces of sentences.

No word serves two purposes, so that every check in `reward.py` can be made on the text alone.
"""

THEMES: dict[str, tuple[str, ...]] = {
    "gardening": ("roses", "spade", "compost", "hedge", "seeds", "hose", "lawn", "bulbs"),
    "camping": ("tent", "lantern", "stove", "blanket", "axe", "map", "campfire", "boots"),
    "baking": ("flour", "oven", "butter", "yeast", "dough", "sugar", "whisk", "pastry"),
    "painting": ("brushes", "canvas", "easel", "palette", "varnish", "sketch", "pigments", "frame"),
    "cycling": ("helmet", "pedals", "brakes", "tyres", "saddle", "chain", "pump", "bell"),
    "music": ("scales", "metronome", "violin", "chords", "rhythm", "strings", "score", "tuner"),
    "moving": ("boxes", "van", "furniture", "keys", "labels", "carpets", "piano", "lease"),
    "fishing": ("rod", "bait", "hooks", "net", "reel", "riverbank", "float", "bucket"),
    "photography": ("lens", "tripod", "shutter", "flash", "portrait", "filter", "battery", "album"),
    "sewing": ("needle", "thread", "fabric", "buttons", "scissors", "zip", "hem", "pattern"),
}
NEW_THEMES = ("fishing", "photography", "sewing")  # never in the training split

# tone -> how a text may open, how it may close, and the words that mark the tone
TONES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "cheerful": (
        ("Hooray, here we go!", "Wonderful, let us begin!"),
        ("Enjoy it!", "Splendid fun awaits!"),
        ("hooray", "wonderful", "enjoy", "splendid"),
    ),
    "formal": (
        ("Kindly consider this.", "Permit some advice."),
        ("Yours sincerely.", "With kind regards."),
        ("kindly", "permit", "sincerely", "regards"),
    ),
    "blunt": (
        ("Listen up.", "Straight to it."),
        ("Now move.", "Stop stalling."),
        ("listen", "straight", "move", "stalling"),
    ),
    "gentle": (
        ("No hurry, dear.", "Take a calm breath."),
        ("Rest whenever you like.", "Go softly."),
        ("hurry", "calm", "rest", "softly"),
    ),
}

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth")

# The two policies write with different words; the second is held out for the split `another_policy`.
VERBS = (
    ("check", "prepare", "bring", "clean", "choose", "sort"),
    ("look after", "work on", "think about", "set aside"),
)
TIMES = (
    ("early", "each week", "at noon", "on Sunday", "after lunch", "twice"),
    ("now and then", "when it is quiet", "in good time"),
)
FILLERS = (
    ("and write it down", "since it adds up", "because it saves trouble"),
    ("as most people forget", "and ask a friend", "which pays in the end"),
)

# Ways to ask. The last of each list is held out for the split `new_phrasings`.
ASK_CONTENT = (
    "Give advice on {themes}.",
    "Write about {themes}.",
    "I need help with {themes}.",
    "A note on {themes}, please.",
)
ASK_ORDER = ("Keep that order.", "Use this order.", "Follow the same order.")
ASK_COUNT = ("Give {count} tips.", "I want {count} tips.", "Let there be {count} tips.")
ASK_TONE = ("Sound {tone}.", "Use a {tone} tone.", "The mood is {tone}.")
ASK_LENGTH = ("Use {bound} {words} words.", "Write {bound} {words} words.", "Aim for {bound} {words} words.")
