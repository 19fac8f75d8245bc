"""The tasks of `./deepy.py evaluate --tasks`, by name. Names are those of lm-evaluation-harness where it has the task."""

from neox_code.config.spelling import find_nearest
from neox_code.errors import ConfigError
from neox_code.evaluation.heldout import measure_heldout
from neox_code.evaluation.task import ModelTask, Task
from neox_code.evaluation.tasks.apps import APPS
from neox_code.evaluation.tasks.cruxeval import CRUXEVAL
from neox_code.evaluation.tasks.evalplus import EVALPLUS
from neox_code.evaluation.tasks.gdscript import GDSCRIPT
from neox_code.evaluation.tasks.human_eval import HUMAN_EVAL, HUMAN_EVAL_PACK
from neox_code.evaluation.tasks.human_eval_infilling import HUMAN_EVAL_INFILLING
from neox_code.evaluation.tasks.infilling import INFILLING
from neox_code.evaluation.tasks.mbpp import MBPP
from neox_code.evaluation.tasks.multipl_e import MULTIPLE
from neox_code.evaluation.tasks.perplexity import PERPLEXITY
from neox_code.evaluation.tasks.repository_tests import REPOSITORY_TESTS
from neox_code.evaluation.tasks.similarity_tasks import SIMILARITY_TASKS

ALL_TASKS: tuple[Task | ModelTask, ...] = (
    APPS,
    *CRUXEVAL,
    *EVALPLUS,
    GDSCRIPT,
    ModelTask("heldout", measure_heldout),
    HUMAN_EVAL,
    *HUMAN_EVAL_INFILLING,
    *HUMAN_EVAL_PACK,
    INFILLING,
    MBPP,
    *MULTIPLE,
    PERPLEXITY,
    REPOSITORY_TESTS,
    *SIMILARITY_TASKS,
)
TASKS = {task.name: task for task in ALL_TASKS}


def find_task(name: str) -> Task | ModelTask:
    """Return the task of a name; raise ConfigError for another name."""
    if name in TASKS:
        return TASKS[name]
    similar = "".join(f" Did you mean {nearest}?" for nearest in find_nearest(name, TASKS)[:1])
    raise ConfigError(f"no task is named {name}.{similar} Tasks: {', '.join(TASKS)}.")
