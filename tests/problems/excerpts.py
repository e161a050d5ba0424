"""A few real problems, so that what is tested on the published files bites where they are not there as well."""

from __future__ import annotations

# Beginnings of GSM8K's test split (MIT licence), questions shortened to what is needed.
GSM8K = (
    {
        "question": "A robe takes 2 bolts of blue fiber and half that much white fiber.  "
        "How many bolts in total does it take?",
        "answer": "It takes 2/2=<<2/2=1>>1 bolt of white fiber\n"
        "So the total amount of fabric is 2+1=<<2+1=3>>3 bolts of fabric\n"
        "#### 3",
    },
    {
        "question": "Josh decides to try flipping a house.  He buys a house for $80,000 and "
        "then puts in $50,000 in repairs.  "
        "This increased the value of the house by 150%.  How much profit did he make?",
        "answer": "The cost of the house and repairs came out to 80,000+50,000=$<<80000+50000=130000>>130,000\n"
        "So he made a profit of 200,000-130,000=$<<200000-130000=70000>>70,000\n#### 70000",
    },
    {"question": "How many thousands make up the sum?", "answer": "1,000,000 + 450,000 = 1,450,000\n#### 1,450,000"},
    {"question": "How far below zero?", "answer": "3 - 10 = -7\n#### -7"},
)

AMC23 = (
    {"question": "Positive real numbers $x$ and $y$ satisfy $y^3=x^2$ and $(y-x)^2=4y^2$. What is $x+y$?", "answer": 36.0},
    {"question": "How many miles from City $A$ will they be when they meet?", "answer": 27.0},
)
