"""A trained model in Python: what was measured of it, and all that it can do."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from kerasllm.data.tables import as_files
from kerasllm.errors import CommandError, RunError, worded_for_python
from kerasllm.json_files import parse_json
from kerasllm.workflows.python_inputs import (
    Conversation,
    Generation,
    checked_prompt,
    inputs_of,
)
from kerasllm.workflows.trained import KeptOpen, Trained

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from kerasllm.explain import Explanation
    from kerasllm.recipe import WholeRecipe
    from kerasllm.workflows.export import Exported
    from kerasllm.workflows.notebook_report import Metrics


class TrainedModel:
    """A trained model: that of a run directory, or a preset of a language model.

    `kerasllm.finetune` returns one, and `kerasllm.load` opens one. Its model is loaded when it is
    first needed, once; its methods do what the commands of their names do, with the same numbers.

    Args:
        trained: What `kerasllm.workflows.trained.open_trained` gave.

    Attributes:
        path: The run directory; `None` of a preset.
        recipe: The recipe that it was trained by; `None` of a preset.

    Example:

    ```python
    run = kerasllm.load("my_run")
    run.predict(["A film to remember."])[0]["label"]
    run.evaluate("test.csv")["accuracy"]
    run.history().plot(x="step", y="loss")
    ```
    """

    def __init__(self, trained: Trained):
        self._trained = KeptOpen(trained.source, trained.run, trained.recipe, trained.task)
        self.path: Path | None = trained.run.path if trained.run else None
        self.recipe: WholeRecipe | None = trained.recipe

    @property
    def model(self) -> keras.Model:
        """The Keras model, loaded when it is first asked for."""
        with worded_for_python():
            return self._trained.model

    @cached_property
    def _in_float32(self) -> keras.Model:
        """The model to take gradients of: in bfloat16 they have too few digits."""
        from kerasllm.training.precision import resolve_precision

        training = getattr(self.recipe, "training", None)
        if resolve_precision(getattr(training, "precision", "auto")) == "float32":
            return self._trained.model
        return self._trained.open(precision="float32")

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured: `train`, `validation` and `test`, and the `timing`."""
        with worded_for_python():
            return self._run.read_metrics()

    @overload
    def history(self, *, as_dicts: Literal[False] = False) -> pd.DataFrame: ...

    @overload
    def history(self, *, as_dicts: Literal[True]) -> list[dict[str, Any]]: ...

    def history(self, *, as_dicts: bool = False) -> pd.DataFrame | list[dict[str, Any]]:
        """Returns what was logged while it trained: a row for each logged step.

        Args:
            as_dicts: Whether a list of dicts is returned rather than a pandas DataFrame. Defaults
                to `False`.

        Returns:
            Columns `step`, `epoch`, `loss`, the metrics, `learning_rate` and others; what was
            measured on the validation data is called `val_loss` and so on.

        Raises:
            CommandError: If pandas is wanted, and not installed.
        """
        log = self._run.metrics_log
        if not log.is_file():
            raise RunError("The run has no log of its training", where=str(log))
        rows: dict[int, dict[str, Any]] = {}
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                row = dict(parse_json(line))
                row["step"]
            except (ValueError, TypeError, KeyError):
                raise RunError("The log of its training is damaged", where=str(log)) from None
            measured = row.pop("validation", {})
            row |= {f"val_{name}": value for name, value in measured.items()}
            rows.setdefault(row["step"], {}).update(row)
        if as_dicts:
            return list(rows.values())
        try:
            import pandas as pd
        except ImportError:
            raise CommandError(
                "A history as a DataFrame needs pandas, which is not installed",
                fix="pip install pandas, or call history(as_dicts=True)",
            ) from None
        return pd.DataFrame(list(rows.values()))

    def predict(
        self,
        texts: Any,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        abstain_below: float | None = None,
    ) -> list[dict[str, Any]]:
        """Predicts for texts.

        Args:
            texts: A text, or texts as a list, a NumPy array or a pandas Series; where the model
                reads two texts, tuples of two. Or a table with a column of texts, as for
                `kerasllm.finetune`; or a file, as a `pathlib.Path`.
            text: Column of the texts of a table. Defaults to `None`: the recipe's.
            text_pair: Column of the second texts of a table. Defaults to `None`: the recipe's.
            abstain_below: The probability below which no label is given. Defaults to `None`: the
                most probable label is given.

        Returns:
            For each text, in the order given, what the task predicts; of a classifier `{"text":
            ..., "label": ..., "probabilities": {label: probability}}`.

        Raises:
            KerasllmError: If the model predicts nothing, or a text is refused.

        Example:

        ```python
        run.predict(["A film to remember.", "A film to forget."])
        pd.DataFrame(run.predict(df, text="review"))["label"]
        ```
        """
        from kerasllm.tasks.task import PredictOptions
        from kerasllm.workflows.predict import predict

        options = PredictOptions(text=text, text_pair=text_pair, abstain_below=abstain_below)
        with worded_for_python():
            for name, value in vars(options).items():
                if value is not None and name not in self._trained.task.predict_options:
                    raise CommandError(
                        f"A model of the task {self._trained.task.name} does not take it",
                        where=name,
                        fix="leave it out",
                    )
            inputs = inputs_of(self._trained, texts, options)
            return list(predict(self._trained, inputs, options=options))

    def explain(
        self,
        texts: Any,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        target: str | None = None,
        method: str = "integrated_gradients",
        baseline: str = "auto",
        steps: int | None = None,
        max_error: float = 0.01,
        checks: bool = True,
    ) -> list[Explanation]:
        """Explains which words of texts moved what it predicts, and how far.

        Args:
            texts: Texts, as for `predict`.
            text: Column of the texts of a table. Defaults to `None`: the recipe's.
            text_pair: Column of the second texts of a table. Defaults to `None`: the recipe's.
            target: What is explained: a label, a type of spans, a next word. Defaults to `None`:
                what it predicts.
            method: `"integrated_gradients"`, `"occlusion"` or `"attention"`, which is no
                explanation. Defaults to `"integrated_gradients"`.
            baseline: What stands for a word that is taken away: `"mask"`, `"pad"`, or `"auto"`, the
                mask where there is one. Defaults to `"auto"`.
            steps: Steps of the integral. Defaults to `None`: as many as it takes.
            max_error: The largest completeness error, as a share of all that the words moved.
                Defaults to `0.01`.
            checks: Whether occlusion and faithfulness are computed as well. Defaults to `True`.

        Returns:
            An explanation for each output of each text: one of a classifier, one for each span.

        Raises:
            KerasllmError: If it cannot be explained, a text is refused, or scores do not add up.

        Example:

        ```python
        found = run.explain("A film to remember.")[0]
        {word.word: word.score for word in found.words}
        ```
        """
        from kerasllm.tasks.task import PredictOptions
        from kerasllm.workflows.explain import explain

        with worded_for_python():
            inputs = inputs_of(self._trained, texts, PredictOptions(text=text, text_pair=text_pair))
            options: dict[str, Any] = {
                "target": target,
                "method": method,
                "baseline": baseline,
                "steps": steps,
                "max_error": max_error,
                "checks": checks,
            }
            return list(explain(self._trained, inputs, model=self._in_float32, **options))

    def evaluate(
        self,
        data: Any = None,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        stride: int | None = None,
        max_length: int | None = None,
        chat_template: str | None = None,
        template: str | None = None,
        adapter: str | Path | None = None,
        output: str | Path | None = None,
        verbose: bool = True,
    ) -> Metrics:
        """Measures it on data.

        Args:
            data: Files, or a table as for `kerasllm.finetune`. Defaults to `None`: the test data of
                the run.
            text: Column of the texts. Defaults to `None`: the recipe's.
            text_pair: Column of the second texts. Defaults to `None`: the recipe's.
            label: Column of the labels. Defaults to `None`: the recipe's.
            stride: Tokens that a window over a text moves on. Defaults to `None`: half a window.
            max_length: The most tokens of a window or a conversation. Defaults to `None`: the
                recipe's; 1024 of a preset.
            chat_template: Of conversations. Defaults to `None`: the model's own.
            template: Of questions. Defaults to `None`: `"Question: {question}\\nAnswer:"`.
            adapter: A folder with a PEFT adapter to put on a language model. Defaults to `None`.
            output: A .jsonl file for what was measured of each row. Defaults to `None`.
            verbose: Whether progress is shown. Defaults to `True`.

        Returns:
            The metrics by name.

        Raises:
            KerasllmError: If the data or an option is refused.

        Example:

        ```python
        run.evaluate("test.csv", text="review", label="stars")["accuracy"]
        ```
        """
        with worded_for_python():
            from kerasllm.workflows.evaluate import evaluate
            from kerasllm.workflows.notebook_report import Metrics
            from kerasllm.workflows.report import Report

            found = evaluate(
                self._trained,
                None if data is None else as_files(data),
                text=text,
                text_pair=text_pair,
                label=label,
                stride=stride,
                max_length=max_length,
                chat_template=chat_template,
                template=template,
                adapter=adapter,
                output=output,
                report=Report() if verbose else Report.silent(),
            )
            return Metrics(found, self._trained.task)

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts
        self, prompts: str, **settings: Unpack[Generation]
    ) -> str: ...

    @overload
    def generate(
        self, prompts: Sequence[str] | Sequence[Conversation], **settings: Unpack[Generation]
    ) -> list[str]: ...

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[Conversation],
        *,
        max_new_tokens: int = 128,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        beams: int = 1,
        length_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        chat: bool = False,
        batch_size: int = 8,
        adapter: str | None = None,
    ) -> str | list[str]:
        """Generates what follows prompts.

        Without `temperature`, `top_k`, `top_p` and `min_p` the most likely token is taken each
        time.

        Args:
            prompts: A text, or a list of texts or of conversations (lists of messages, answered by
                the chat template).
            max_new_tokens: The most tokens that follow a prompt. Defaults to `128`.
            temperature: Below 1: more likely tokens. Defaults to `None`.
            top_k: Sample among this many most likely tokens. Defaults to `None`.
            top_p: Sample among the most likely tokens up to this sum. Defaults to `None`.
            min_p: Sample among tokens this likely, beside the first. Defaults to `None`.
            repetition_penalty: Above 1: fewer repetitions. Defaults to `1.0`.
            beams: The beams of beam search. Defaults to `1`: no beam search.
            length_penalty: Above 0: longer texts win beams. Defaults to `1.0`.
            stop: Texts at which a generation ends. Defaults to `()`.
            seed: Of what is drawn. Defaults to `None`: another each time.
            chat: Whether a text is a user's message, to be answered by the chat template. Defaults
                to `False`.
            batch_size: The most prompts that are computed together. Defaults to `8`.
            adapter: A folder with a PEFT adapter to put on the model. Defaults to `None`.

        Returns:
            The text that follows the prompt, without it; of a list of prompts a list of texts.

        Raises:
            KerasllmError: If the model writes no text, or a prompt or a setting is refused.

        Example:

        ```python
        kerasllm.load("smollm2_135m_instruct").generate("Name three whales.", chat=True)
        ```
        """
        from kerasllm.generation.settings import GenerationSettings
        from kerasllm.workflows.generate import generate

        given = [prompts] if isinstance(prompts, str) else list(prompts)
        with worded_for_python():
            settings = GenerationSettings(
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                beams=beams,
                length_penalty=length_penalty,
                seed=secrets.randbelow(1 << 31) if seed is None else seed,
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
            )
            wanted = [checked_prompt(each, f"prompt {n}") for n, each in enumerate(given)]
            made = generate(
                self._trained, wanted, settings, chat=chat, batch_size=batch_size, adapter=adapter
            )
            texts = [each["text"] for each in made]
        return texts[0] if isinstance(prompts, str) else texts

    def export(
        self,
        format: str = "saved_model",
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        precisions: Sequence[str] = (),
        rows: int | Literal["all"] | None = None,
        sign: str | Path | None = None,
        verbose: bool = True,
    ) -> Exported:
        """Writes it, as it was saved, in a format that others load, and checks what was written.

        Args:
            format: `saved_model`, `transformers`, `litert`, `onnx`, `keras` or `keras_hub`.
                Defaults to `"saved_model"`.
            output: The folder to write. Defaults to `None`: `export/FORMAT` in the run.
            overwrite: Whether an export that is there is replaced. Defaults to `False`.
            precisions: What the weights are written in. Defaults to `()`: float32; of litert all.
            rows: How many rows are compared, or `"all"`. Defaults to `None`: what the task says.
            sign: The file of a private key to sign the folder with. Defaults to `None`: it is not.
            verbose: Whether progress is shown. Defaults to `True`.

        Returns:
            The `folder`, its `files` with their sizes, and the `parity` with the model.

        Raises:
            KerasllmError: If the format or the folder is refused, or what was written does not give
                the model's outputs.
        """
        with worded_for_python():
            from kerasllm.workflows.export import export
            from kerasllm.workflows.report import Report

            return export(
                self._trained.source,
                format,
                output=None if output is None else Path(output),
                overwrite=overwrite,
                precisions=(precisions,) if isinstance(precisions, str) else tuple(precisions),
                rows=rows,
                sign=sign,
                command="TrainedModel.export",
                report=Report() if verbose else Report.silent(),
            )

    def __repr__(self) -> str:
        return f"TrainedModel({str(self._trained.source)!r}, {', '.join(self._facts())})"

    def _repr_html_(self) -> str:
        import html

        from kerasllm.workflows.notebook_report import html_of

        facts = f"<p>{html.escape(repr(self))}</p>"
        parts = self._measured()
        tables = self._trained.task.tables(parts) if parts else []
        return facts + "".join(map(html_of, tables))

    def _facts(self) -> list[str]:
        task = self._trained.task
        facts = [f"task={task.name!r}"]
        for part, metrics in reversed(self._measured().items()):
            headline = task.headline_of(metrics).metric
            if isinstance(value := metrics.get(headline), float):
                facts.append(f"{part}_{headline}={value:.4f}")
                break
        return facts

    def _measured(self) -> dict[str, dict[str, Any]]:
        """Returns the metrics of the validation and the test data, where there are some."""
        metrics = self.metrics if self._trained.run else {}
        return {part: metrics[part] for part in ("validation", "test") if metrics.get(part)}

    @property
    def _run(self) -> Any:
        if self._trained.run is None:
            raise RunError(
                f"{self._trained.source} is a preset and has no training log",
                fix="give a run directory to kerasllm.load",
            )
        return self._trained.run
