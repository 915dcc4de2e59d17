# Budget map: columns are memories, rows are models. Column, row, colour, text colour, method, note.
set border 0
set grid noxtics noytics
set xrange [0.5:NCOLUMNS+0.5]
set yrange [0.5:NROWS+0.5]
set xtics (COLUMN[1] 1)
set for [i=2:NCOLUMNS] xtics add (COLUMN[i] i)
set ytics (ROW[1] 1)
set for [i=2:NROWS] ytics add (ROW[i] i)
set xtics scale 0 textcolor rgb INK
set ytics scale 0 textcolor rgb INK
set xlabel 'GPU memory (GiB)' textcolor rgb INK
unset colorbox
set style fill solid 1.0 noborder
SMALL = VECTOR ? 'sans-serif,11' : 'DejaVu Sans,8'
LARGE = VECTOR ? 'sans-serif,14' : 'DejaVu Sans,10'
plot DATA using 1:2:($1-0.48):($1+0.48):($2-0.46):($2+0.46):3 with boxxyerror fillcolor rgb variable notitle, \
     DATA using 1:($2+($7 > 0 ? 0.13 : 0)):5:4 with labels font LARGE textcolor rgb variable notitle, \
     DATA using 1:($2-0.2):6:4 with labels font SMALL textcolor rgb variable notitle
