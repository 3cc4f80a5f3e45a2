"""Med-ST: vision-language models of chest radiographs with several views (frontal, lateral) and time."""

from medst import losses as losses
from medst._errors import (
    DataError as DataError,
)
from medst._errors import (
    EngineError as EngineError,
)
from medst._errors import (
    Error as Error,
)
from medst._errors import (
    FileError as FileError,
)
from medst._errors import (
    FilePermissionError as FilePermissionError,
)
from medst._errors import (
    ImageError as ImageError,
)
from medst._errors import (
    InputError as InputError,
)
from medst._errors import (
    MissingFileError as MissingFileError,
)
from medst.cohort import phantom as phantom
from medst.cohort import prepare as prepare
from medst.corpus import Corpus as Corpus
from medst.evaluation import (
    Evaluation as Evaluation,
)
from medst.evaluation import (
    Figure as Figure,
)
from medst.evaluation import (
    evaluate as evaluate,
)
from medst.evaluation import (
    evaluation_texts as evaluation_texts,
)
from medst.model import Model as Model
from medst.model import load as load
from medst.results import Classification as Classification
from medst.results import Comparison as Comparison
from medst.results import FindingChange as FindingChange
from medst.results import FindingSeries as FindingSeries
from medst.results import Grounding as Grounding
from medst.results import Prediction as Prediction
from medst.results import Series as Series
from medst.study import Study as Study

__version__: str
