"""A hundred thousand pages and more: a list of pictures in, a folder of parquet files out.

The list is cut into shards of 64 pages. A shard is one parquet file, a page is one row of it, and
so is a page that failed. Which page is in which row follows from the list alone, and no time and no
name of a machine is written: whoever fills a shard, and how often, its bytes are the same. That is
why a run goes on after a kill, and why Ray may do a shard twice. Files, in the order of use:

    manifest.py  the list of pages: a table or a folder
    cloud.py     addresses such as s3://bucket/page.png
    rows.py      what is asked of a worker, and what it answers
    record.py    one picture -> one row
    shards.py    rows -> parquet; pages that wait until their shard is full
    local.py     fill the shards with the cores and GPUs of this machine
    on_ray.py    fill them with those of a Ray cluster
    summary.py   what became of all pages
    run.py       all of it, in one folder, once at a time
    command.py   `ecg-digitize digitize-many`
"""
