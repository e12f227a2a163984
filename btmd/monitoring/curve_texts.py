"""How the curves of a training went, in sentences; part of the catalogue in texts."""

CURVE_TEXTS: dict[str, str] = {
    "curve_fell": "The {what} fell from {first:.3g} to {last:.3g}.",
    "curve_rose": "The {what} rose from {first:.3g} to {last:.3g}.",
    "curve_flat": "The {what} stayed at about {last:.3g} (lowest {low:.3g}, highest {high:.3g}).",
    "curve_held_out_once": "The held-out loss was measured once: {first:.3g}.",
    "curve_held_out": "The held-out loss went from {first:.3g} to {last:.3g}; the lowest, {best:.3g}, was after step "
    "{step}.",
    "curve_held_out_rose": "The held-out loss fell to {best:.3g} after step {step} and rose to {last:.3g}: from there "
    "the rows were learned by heart.",
    "curve_learning_rate": "The learning rate was highest, {high:.2g}, at step {step} and {last:.2g} at the end.",
    "curve_speed_steady": "The speed was steady at about {last:,.0f} tokens a second ({low:,.0f} to {high:,.0f}).",
    "curve_speed_varied": "The speed varied between about {low:,.0f} and {high:,.0f} tokens a second.",
    "curve_speed_slower": "It became slower: from about {first:,.0f} to {last:,.0f} tokens a second.",
    "curve_speed_faster": "It became faster: from about {first:,.0f} to {last:,.0f} tokens a second.",
    "curve_memory": "The {what} stayed at about {last} (at most {high}).",
    "curve_memory_grew": "The {what} grew from about {first} to {last} (at most {high}).",
}
