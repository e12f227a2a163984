"""Train a model on a file of examples that was added before, and watch it.

btmctl datasets add faq.jsonl --consent --purpose "our help desk"
python examples/train_a_model.py smollm2 faq
"""

import asyncio
import sys

from btmctl import BasicTrainingMode, TrainingRefused


async def main(model_id: str, dataset_id: str) -> int:
    training = BasicTrainingMode()
    planned = await training.start_basic_training(model_id=model_id, dataset_id=dataset_id, dry_run=True)
    print("It should take", planned.plan["forecast_texts"]["time"])
    try:
        job = await training.start_basic_training(model_id=model_id, dataset_id=dataset_id)
    except TrainingRefused as refused:
        print(refused.detail, refused.hint, file=sys.stderr)
        return 1
    while (result := training.get_training_result(job.job_id)) is None:
        progress = training.get_training_progress(job.job_id)
        print(f"{progress.progress_percentage:5.1f} %  {progress.status_message}")
        await asyncio.sleep(1)
    print(result.performance_summary)
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
