"""Any recipe, written as YAML, loads back equal: a run directory can be run again."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm import recipe
from kerasllm.recipe.schema import known_keys
from kerasllm.tasks import text_classification as task

# What each key of the schema may hold.
texts = st.text(min_size=1, max_size=20)
counts = st.integers(1, 2**31 - 1)
shares = st.floats(0, 1, exclude_max=True)
positives = st.floats(0, exclude_min=True, allow_infinity=False)
files = texts | st.lists(texts, min_size=1, max_size=3)


def choices(*key):
    return st.sampled_from(known_keys(task.ClassificationRecipe)[key].choices)


models = st.builds(
    task.ClassificationModel,
    preset=texts,
    dropout=shares,
    head_dropout=st.none() | shares,
    freeze=st.integers(0, 99),
    lora=st.none()
    | st.builds(
        recipe.Lora,
        rank=counts,
        alpha=positives,
        targets=st.lists(texts, min_size=1, max_size=3),
    ),
)
data = st.builds(
    task.ClassificationData,
    train=files,
    validation=st.none() | files,
    test=st.none() | files,
    text=st.just("the text"),
    label=st.none() | texts,
    label_names=st.none()
    | st.lists(texts, min_size=1, max_size=4, unique=True).map(
        lambda labels: {label: f"{label} {index}" for index, label in enumerate(labels)}
    ),
    validation_split=shares.filter(bool),
    max_length=st.integers(3, 65536),
    buckets=counts,
    class_weights=st.sampled_from([None, "balanced"]),
    on_bad_row=choices("data", "on_bad_row"),
)
trainings = st.builds(
    task.ClassificationTraining,
    epochs=counts,
    batch_size=st.integers(1, 9).map(lambda n: n * 12),
    accumulate=st.sampled_from([1, 2, 3, 4, 6, 12]),
    optimizer=choices("training", "optimizer"),
    learning_rate=positives,
    weight_decay=st.just(0.0) | positives,
    layer_decay=st.floats(0, 1, exclude_min=True),
    schedule=choices("training", "schedule"),
    power=positives,
    warmup=shares | counts.map(float),
    clip_norm=st.none() | positives,
    label_smoothing=shares,
    l2=positives,
    early_stopping=st.none()
    | st.builds(
        task.ClassificationEarlyStopping,
        patience=counts,
        metric=choices("training", "early_stopping", "metric"),
        min_delta=positives,
    ),
    evaluate_every=st.just("epoch") | counts,
    ema=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    precision=choices("training", "precision").filter(lambda precision: precision != "bfloat16"),
    xla=st.sampled_from(["auto", True, False]),
    gpu_memory=st.sampled_from(["growth", "all", "8GB", "7.5GiB"]),
    seed=st.integers(0, 2**32 - 1),
    log_every=counts,
    track=st.none() | st.sampled_from(["mlflow", ["wandb", "trackio"]]),
)
# What pure bfloat16 goes with.
trainings |= st.builds(
    task.ClassificationTraining,
    precision=st.just("bfloat16"),
    optimizer=st.sampled_from(["adamw", "adam"]),
    learning_rate=positives,
)
weighted = st.builds(
    task.ClassificationData,
    train=files,
    class_weights=st.dictionaries(texts, positives, min_size=1, max_size=3),
)
recipes = st.builds(
    task.ClassificationRecipe,
    task=choices("task"),
    model=models,
    data=data | weighted,
    training=trainings,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=recipes, explain=st.booleans())
def test_a_recipe_written_as_yaml_loads_back_equal(tmp_path, made, explain):
    path = tmp_path / "recipe.yaml"
    path.write_text(made.to_yaml(explain), encoding="utf-8", newline="")
    assert recipe.load(path) == made
