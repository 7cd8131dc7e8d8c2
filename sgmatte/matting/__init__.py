"""Alpha of a photo and its trimap: matting models, one behind another's name.

`models` says what a matting model is, `registry` which there are, `networks` and `classical` hold sgmatte's own.
"""
