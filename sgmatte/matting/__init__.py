"""Alpha of a photo and its trimap: matting models, one behind another's name.

`models` says what a matting model is and finds it by name, `networks` and `classical` hold sgmatte's own.
"""

from sgmatte.matting.models import MattingModel, matting_model, matting_models, pasted

__all__ = ["MattingModel", "matting_model", "matting_models", "pasted"]
