"""Portraits that nobody took: drawn by the generator, enhanced, matted, and kept where their mattes can be learnt from.

SMPEG's second use of its enhancement (Xu, Zhou, He, section III-D): generated portraits with predicted alphas are
training data for matting networks.
"""
