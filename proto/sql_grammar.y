/* The SQL subset as a grammar. `lemon` makes sql_grammar.c of it, which sql.c includes: the functions called in the actions
 * stand there, and so does the lexer. Every list is counted there, and a full stack is an error of the input. */
%name proto_sql_lemon
%token_prefix SQL_
%token_type {struct token}
%extra_argument {struct parser *parser}
%stack_size 300
%stack_overflow { parse_too_deep(parser); }
%syntax_error {
    for (int token = 0; token < YYNTOKEN; token++) {
        if (yy_find_shift_action((YYCODETYPE)token, yypParser->yytos->stateno) != YY_ERROR_ACTION) {
            parse_expected(parser, token);
        }
    }
    parse_unexpected(parser, &TOKEN);
}
%default_type {struct token}

%type condition {struct proto_predicate *}
%type predicate {struct proto_predicate *}
%type operand {struct operand}
%type literal {struct proto_literal}
%type comparison {enum proto_op}
%type name {struct token}

%left OR.
%left AND.
%right NOT.

statement ::= SELECT items FROM DATASET(D) where group end. { parse_dataset(parser, &D); }
end ::= .
end ::= SEMICOLON.

items ::= item.
items ::= items COMMA item.
item ::= expression label. { parse_item_end(parser); }
label ::= .
label ::= AS name(N). { parse_label(parser, &N); }
expression ::= name(N). { parse_item_column(parser, &N); }
expression ::= call RP. { parse_call_end(parser); }
call ::= ID(F) LP. { parse_call(parser, &F); }
call ::= ID(F) LP STAR. { parse_call(parser, &F); parse_call_star(parser); }
call ::= ID(F) LP DISTINCT name(N). { parse_call(parser, &F); parse_call_distinct(parser, &N); }
call ::= first argument.
call ::= call COMMA argument.
first ::= ID(F) LP. { parse_call(parser, &F); }
argument ::= name(N). { parse_argument(parser, &N); }
argument ::= NUMBER(N). { parse_argument_number(parser, &N); }

where ::= .
where ::= WHERE condition(C). { parser->query->where = C; }

group ::= .
group ::= GROUP BY names.
names ::= name(N). { parse_group(parser, &N); }
names ::= names COMMA name(N). { parse_group(parser, &N); }

condition(R) ::= condition(A) OR condition(B). { R = parse_join(parser, PROTO_OP_OR, A, B); }
condition(R) ::= condition(A) AND condition(B). { R = parse_join(parser, PROTO_OP_AND, A, B); }
condition(R) ::= NOT condition(A). { R = parse_not(parser, A); }
condition(R) ::= LP condition(A) RP. { R = A; }
condition(R) ::= predicate(A). { R = A; }

predicate(R) ::= operand(A). { R = parse_bare(parser, &A); }
predicate(R) ::= operand(A) comparison(O) operand(B). { R = parse_compare(parser, O, &A, &B); }
predicate(R) ::= operand(A) BETWEEN literal(L) AND literal(H). { R = parse_between(parser, &A, &L, &H); }
predicate(R) ::= operand(A) NOT BETWEEN literal(L) AND literal(H). { R = parse_not(parser, parse_between(parser, &A, &L, &H)); }
predicate(R) ::= operand(A) IN LP list RP. { R = parse_in(parser, &A, PROTO_OP_IN); }
predicate(R) ::= operand(A) NOT IN LP list RP. { R = parse_in(parser, &A, PROTO_OP_NOT_IN); }
predicate(R) ::= operand(A) IS NULL. { R = parse_is_null(parser, &A, PROTO_OP_IS_NULL); }
predicate(R) ::= operand(A) IS NOT NULL. { R = parse_is_null(parser, &A, PROTO_OP_IS_NOT_NULL); }

list ::= literal(L). { parse_list_start(parser); parse_list_add(parser, &L); }
list ::= list COMMA literal(L). { parse_list_add(parser, &L); }

comparison(R) ::= EQ. { R = PROTO_OP_EQ; }
comparison(R) ::= NE. { R = PROTO_OP_NE; }
comparison(R) ::= LT. { R = PROTO_OP_LT; }
comparison(R) ::= LE. { R = PROTO_OP_LE; }
comparison(R) ::= GT. { R = PROTO_OP_GT; }
comparison(R) ::= GE. { R = PROTO_OP_GE; }

operand(R) ::= name(N). { R = (struct operand){.is_column = true, .name = N, .at = N.at}; }
operand(R) ::= literal(L). { R = (struct operand){.literal = L, .at = L.at}; }

literal(R) ::= NUMBER(T). { R = parse_number(parser, &T); }
literal(R) ::= STRING(T). { R = parse_string(parser, &T); }
literal(R) ::= ID(D) STRING(T). { R = parse_date(parser, &D, &T); }
literal(R) ::= TRUE(T). { R = parse_boolean(&T, true); }
literal(R) ::= FALSE(T). { R = parse_boolean(&T, false); }
literal(R) ::= NULL(T). { R = (struct proto_literal){.kind = PROTO_LITERAL_NULL, .text = "NULL", .at = T.at}; }

name(R) ::= ID(T). { R = T; }
name(R) ::= QUOTED(T). { R = T; }
